"""The state of a sweep or of any runs: python tools/sweep.py runs/sweep [--csv FILE] [--resubmit failed | --cancel]"""

import sys

from diffmae_video.launch.cli import sweep_main

if __name__ == "__main__":
    sys.exit(sweep_main())
