"""vLLM as a sampler (docs/vllm.md). Only this package names vLLM.

`open` decides between the run's engine, a vLLM server that lives as long as the run (`run_engine`, `keeper`, `client`),
and an engine of the stage's own, in its process (`own`). Both start with the same `arguments`.
"""
