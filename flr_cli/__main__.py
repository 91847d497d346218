"""`python -m flr_cli` is `flr`; `accelerate launch -m flr_cli train ...` trains on several GPUs."""

from flr_cli.app import run

if __name__ == "__main__":
    run()
