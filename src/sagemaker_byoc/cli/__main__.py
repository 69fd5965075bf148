"""python -m sagemaker_byoc.cli"""

from sagemaker_byoc.cli.entry import main

raise SystemExit(main())
