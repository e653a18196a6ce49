"""Submit a config to SLURM: python tools/submit.py --cfg configs/k400_vitl.yaml slurm.nodes=8 slurm.hours=72"""

import sys

from diffmae_video.launch.cli import submit_main

if __name__ == "__main__":
    sys.exit(submit_main())
