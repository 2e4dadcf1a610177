"""What a person types and reads: commands, texts, exit codes, the demo."""
