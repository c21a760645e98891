"""Where `import hiermodels` and a first fit spend their time."""

import json
import subprocess
import sys

from measuring import Measured, interleave, report

CODE = """
import json, time
start = time.perf_counter(), time.process_time()
import hiermodels as hm
own = time.perf_counter() - start[0], time.process_time() - start[1]
hm.Model
models = time.perf_counter() - start[0], time.process_time() - start[1]
print(json.dumps({"import": own, "models": models}))
"""


def side(key):
    def run(_seed):
        done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True)
        return Measured(*json.loads(done.stdout)[key])

    return run


def work(rounds):
    sides = {"import hiermodels": side("import"), "and hiermodels.Model": side("models")}
    return interleave(sides, rounds)


if __name__ == "__main__":
    report("import", "no target", work)
