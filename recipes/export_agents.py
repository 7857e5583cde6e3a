"""Write one file per agent of a trained run, as ``vm3ac export`` does.

python recipes/export_agents.py runs/demo format=onnx
"""

from vm3ac_modules.cli.export import main

if __name__ == "__main__":
    main(program="export_agents.py")
