"""Execute trained agents one by one, a process each, as ``vm3ac decentralize`` does.

python recipes/run_decentralized.py runs/demo format=onnx episodes=20
"""

from vm3ac_modules.cli.decentralize import main

if __name__ == "__main__":
    main(program="run_decentralized.py")
