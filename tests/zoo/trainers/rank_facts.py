"""Prints the variables of a rank."""

import json
import os
import sys

names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE",
         "ROLE_RANK", "ROLE_NAME", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
         "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS",
         "TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_ERROR_FILE", "OMP_NUM_THREADS",
         "TORCH_NCCL_ASYNC_ERROR_HANDLING", "SM_MASTER_ADDR", "BYOC_PROGRESS_FILE",
         "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")  # fmt: skip
facts = {name: os.environ[name] for name in names if name in os.environ}
sys.stdout.write(json.dumps({**facts, "argv": sys.argv[1:]}) + "\n")
