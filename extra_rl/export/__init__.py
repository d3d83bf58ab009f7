"""Export of a run's policy as a folder that transformers, peft and vLLM read without ExTra."""
