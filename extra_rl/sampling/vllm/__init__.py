"""vLLM as a sampler (docs/vllm.md). Only this package names vLLM.

`open` provides a stage with vLLM's server for its policy: the run's server, or one that lives as long as the stage.
`run_engine` finds or starts it, `keeper` ends it with the run, `client` sends requests to it, `arguments` and `weights`
prepare its start, and `probe` compares its logprobs with the policy's.
"""
