"""Run a config: python tools/run_net.py --cfg configs/motion_tiny.yaml [stages=[finetune,test]] [key=value ...]"""

import sys

from diffmae_video.engine.cli import main

if __name__ == "__main__":
    sys.exit(main())
