"""Fine-tuning as a defence: VLGuard's Mixed and Post-hoc, whole or with low-rank adapters."""
