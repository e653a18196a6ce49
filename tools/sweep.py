"""What became of a sweep: python tools/sweep.py runs/sweep [--csv FILE] [--plot FILE] [--resubmit failed | --cancel]"""

import sys

from diffmae_video.launch.cli import sweep_main

if __name__ == "__main__":
    sys.exit(sweep_main())
