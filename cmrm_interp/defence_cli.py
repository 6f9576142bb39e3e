"""Commands about defences: ``cmrm recipes``, ``cmrm finetune``, ``cmrm compare``."""
