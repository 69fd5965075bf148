# torchrun from a shell program.
set -e
torchrun --standalone --nproc-per-node "${RANKS:-2}" torch_loop.py
