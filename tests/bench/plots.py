"""SVG and PNG plots of the parts that measure many numbers of connections, with gnuplot.

Runs inside tests/bench/run; it writes to build/bench and reads nothing but rows.
"""

import os
import shutil

from common import OUT, SERVERS, write_file
from lookups import PLACEMENTS

PLOT = """
set datafile separator ","
set key outside bottom center horizontal
set grid
set logscale x 2
set xrange [0.7:90]
set xtics ({tics})
set xlabel "connections"
set style line 1 lc rgb "#777777" lw 2 pt 7
set style line 2 lc rgb "#0060ad" lw 2 pt 7
set style line 3 lc rgb "#dd5500" lw 2 pt 7
set terminal {terminal}
set output "{output}"
set multiplot layout {lines},2 title "{title}"
{panels}
unset multiplot
"""


def plot_panel(workload, quantity, names, placement, rows):
    """Inline data and one plot command for one workload; throughput has bars from min to max."""
    text = []
    curves = []
    for index, name in enumerate(names):
        mine = [
            row
            for row in rows
            if (row["workload"], row["placement"], row["server"])
            == (workload.name, placement, name)
        ]
        if not mine:
            continue
        block = f"$d{index}"
        text.append(f"{block} << EOD")
        for row in mine:
            text.append(
                ",".join(
                    str(row[column])
                    for column in (
                        "connections",
                        "lookups_per_s",
                        "lookups_per_s_min",
                        "lookups_per_s_max",
                        "p50_us",
                        "p99_us",
                    )
                )
            )
        text.append("EOD")
        style = SERVERS.index(name) + 1
        if quantity == "throughput":
            curves.append(f'{block} using 1:2:3:4 with yerrorlines ls {style} title "{name}"')
        else:
            curves.append(f'{block} using 1:5 with linespoints ls {style} title "{name} p50"')
            curves.append(f'{block} using 1:6 with linespoints ls {style} dt 2 title "{name} p99"')
    if not curves:
        return ""
    axis = (
        'unset logscale y\nset ylabel "lookups a second"\nset yrange [0:*]\nset format y "%.1s%c"'
        if quantity == "throughput"
        else 'set logscale y\nset ylabel "microseconds"\nset yrange [*:*]\nset format y "%g"'
    )
    text += [axis, f'set title "{workload.title}"', "plot " + ", ".join(curves)]
    return "\n".join(text)


def draw(bench, workloads, placements, names, connections, rows, prefix=""):
    """SVG and PNG plots with gnuplot; returns the files made, or says why there are none."""
    if shutil.which("gnuplot") is None:
        return ["no plots: gnuplot is not installed"]
    made = []
    lines = max(1, (len(workloads) + 1) // 2)
    height = 425 * lines
    tics = ", ".join(f'"{c}" {c}' for c in connections)
    for quantity in ("throughput", "latency"):
        for placement in placements:
            panels = [plot_panel(w, quantity, names, placement, rows) for w in workloads]
            for ending, terminal in (
                ("svg", f'svg size 1100,{height} font "sans,12" background "white"'),
                ("png", f'pngcairo size 1100,{height} font "sans,10"'),
            ):
                output = os.path.join(OUT, f"{prefix}{quantity}-{placement}.{ending}")
                script = PLOT.format(
                    lines=lines,
                    tics=tics,
                    terminal=terminal,
                    output=output,
                    title=f"{quantity}, {PLACEMENTS[placement]}",
                    panels="\n".join(panel for panel in panels if panel),
                )
                path = bench.path("plot.gp")
                write_file(path, script)
                status, text = bench.run(["gnuplot", path])
                if status != 0:
                    return made + [f"no {output}: gnuplot: {text.strip()}"]
                made.append(output)
    return made
