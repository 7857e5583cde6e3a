"""Evaluate a trained run, as ``vm3ac evaluate`` does.

python recipes/evaluate.py run_dir=runs/demo episodes=20 latent=all coordination=true
"""

from vm3ac_modules.cli.evaluate import main

if __name__ == "__main__":
    main(program="evaluate.py")
