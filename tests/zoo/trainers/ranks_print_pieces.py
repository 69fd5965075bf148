"""Every rank writes metric lines in pieces, as print does with several arguments."""

import os

rank = os.environ["RANK"]
for step in range(500):
    print("rank:", rank, "step:", step, f"loss={step / 7:.6f};", f"accuracy={step / 500};")
