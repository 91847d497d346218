"""Full-catalogue evaluation: metrics, segments, baselines, diagnostics."""
