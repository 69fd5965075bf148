# `accelerate launch`, as its documentation shows it, from a shell program.
accelerate launch --cpu --num_processes "${RANKS:-2}" --num_machines 1 --mixed_precision no --dynamo_backend no \
  accelerate_loop.py
