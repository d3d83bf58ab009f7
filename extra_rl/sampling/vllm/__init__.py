"""vLLM as a sampler (docs/vllm.md). Only this package names vLLM.

`open` gives a stage vLLM's server over its policy: that of the run, which lives as long as the run, or one that lives
as long as the stage. `run_engine` finds or starts it, `keeper` ends it, `client` talks to it, `arguments` and `weights`
are what it is started with.
"""
