"""The behaviour model: baselines, an isolation forest over features, and what is stored of them."""
