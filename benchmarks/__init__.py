"""Speed and memory of the package beside plain Hugging Face calls and bare hooks; each module is a command."""
