"""Why a program failed, in the words of the failure file."""
