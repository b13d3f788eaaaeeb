"""What RESULTS.md quotes, measured: a file a claim, bars in bars.toml; no part of the package."""
