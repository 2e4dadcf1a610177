"""What is made of a series: volumes, preview, manifest."""
