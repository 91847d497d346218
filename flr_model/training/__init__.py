"""Supervised fine-tuning and latent GRPO, both on transformers.Trainer."""
