# Time of one attention call per method: median as a dot, least to largest as a line. Variables: data, caption, out, methods.
set terminal svg size 900, 60 + 16 * methods font "sans-serif,11" background "white"
set output out
set datafile separator "\t"
set title caption noenhanced
set xlabel "milliseconds a call"
set yrange [methods:-1]
set grid x
set key off
plot data using 2:0:3:4:ytic(1) with xerrorbars pointtype 7 pointsize 0.5 linecolor rgb "#1f5a94"
