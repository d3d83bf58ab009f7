"""ExTra: reinforcement learning with verifiable rewards, with exploration from the model's own rollouts.

The library knows nothing of Snakemake; `stages/` calls it. Nothing heavy is imported here.
"""

__version__ = "0.1.0"
