#!/usr/bin/env python3
"""How many clk a warp takes on its own along a path through a kernel, as ptxas schedules it: where no GPU is at hand, what a loop that
one warp walks comes to, whatever its instructions are worth in issue slots.

    nvcc -std=c++17 -O3 -lineinfo -Ikernels -Iinclude -gencode arch=compute_90a,code=sm_90a -cubin -o k.cubin k.cu
    latency.py k.cubin branches FROM TO              branches, barriers and copies between two addresses, with their lines
    latency.py k.cubin walk FROM TO [ADDRESS[:N]...]  instructions, clk; the branches at ADDRESS are taken (N times), others are not

A warp waits as many clk after each instruction as its encoding says, and for the scoreboards that it names, of operations whose
latency is not fixed: of these LATENCY has typical ones where all loads hit L1 and no barrier is waited for. Other warps' turns at the
scheduler are not counted. NVDISASM names nvdisasm, if it is not in the path.
"""
import os
import re
import subprocess
import sys

LATENCY = {"LDS": 30, "LDSM": 33, "LDG": 40, "LD": 45, "LDC": 35, "S2R": 25, "S2UR": 25, "MUFU": 22, "I2F": 22, "F2I": 22, "SYNCS": 30,
           "SHFL": 25, "VOTE": 12, "R2UR": 12, "ULDC": 14, "ATOM": 300, "HMMA": 33, "MEMBAR": 40, "UTMALDG": 30, "STS": 25, "STG": 30,
           "LDGSTS": 30, "BAR": 30}
OTHERS, TAKEN = 10, 8  # latency of what is not listed; of a jump


class Instruction:
    def __init__(self, address, text, line):
        self.address, self.text, self.line, self.control = address, text, line, None
        words = re.sub(r"^@!?U?P\w+\s+", "", text).split()
        self.operation, self.conditional = words[0].split(".")[0], text.startswith("@")
        target = re.search(r"`\((\.L_x_\d+)\)", text)
        # BRA.DIV is taken where a warp has diverged
        self.target = target.group(1) if target and self.operation == "BRA" and ".DIV" not in words[0] else None

    # Of the upper word: clk to the next instruction; the scoreboards it sets, and those it waits for.
    def stall(self): return max(self.control >> 41 & 15, 1)
    def sets(self): return self.control >> 46 & 7, self.control >> 49 & 7
    def waits(self): return [b for b in range(6) if self.control >> 52 >> b & 1]


def disassemble(cubin):
    text = subprocess.run([os.environ.get("NVDISASM", "nvdisasm"), "-c", "-hex", "-g", cubin], check=True, capture_output=True, text=True)
    code, labels, line = [], {}, ""
    for row in text.stdout.splitlines():
        label = re.match(r"(\.L_x_\d+):", row)
        source = re.search(r'//## File ".*?([\w.]+)", line (\d+)', row)
        first = re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;\s*/\*", row)
        second = re.match(r"\s*/\* 0x([0-9a-f]{16}) \*/", row)
        if label:
            labels[label.group(1)] = len(code)
        elif source:
            line = ":".join(source.groups())
        elif first:
            code.append(Instruction(int(first.group(1), 16), first.group(2), line))
        elif second and code and code[-1].control is None:
            code[-1].control = int(second.group(1), 16)
    return code, labels


def walk(code, labels, begin, end, taken):
    at = next(k for k, i in enumerate(code) if i.address == begin)
    clk, count, ready = 0, 0, [0] * 6
    while count == 0 or code[at].address != end:
        i = code[at]
        clk = max([clk] + [ready[b] for b in i.waits()])
        written, read = i.sets()
        if written < 6: ready[written] = max(ready[written], clk + LATENCY.get(i.operation, OTHERS))
        if read < 6: ready[read] = max(ready[read], clk + OTHERS)
        clk += i.stall()
        count += 1
        at += 1
        if i.target and (not i.conditional or taken.get(i.address, 0) > 0):
            if i.conditional: taken[i.address] -= 1
            clk += TAKEN
            at = labels[i.target]
    return count, clk


def main():
    if len(sys.argv) < 5 or sys.argv[2] not in ("branches", "walk"): sys.exit(__doc__)
    code, labels = disassemble(sys.argv[1])
    begin, end = (int(x, 16) for x in sys.argv[3:5])
    if sys.argv[2] == "walk":
        taken = {int(x, 16): int(n or 1 << 30) for x, _, n in (word.partition(":") for word in sys.argv[5:])}
        print("%d instructions, %d clk" % walk(code, labels, begin, end, taken))
        return
    for k, i in enumerate(code):
        if not begin <= i.address <= end: continue
        for label, place in labels.items():
            if place == k: print(label)
        if i.operation in ("BRA", "SYNCS", "BAR", "UTMALDG", "LDGSTS", "HGMMA"): print("%6x  %-60s %s" % (i.address, i.text[:60], i.line))


main()
