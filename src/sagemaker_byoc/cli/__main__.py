"""python -m sagemaker_byoc.cli"""

from sagemaker_byoc.cli.main import main

raise SystemExit(main())
