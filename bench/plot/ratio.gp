# Time per method relative to plain RoPE, measured in turn with it. Variables: data, caption, out, methods.
set terminal svg size 900, 60 + 16 * methods font "sans-serif,11" background "white"
set output out
set datafile separator "\t"
set title caption noenhanced
set xlabel "time / time of plain RoPE"
set xrange [0:*]
set yrange [methods:-1]
set grid x
set key off
set style fill solid 0.6
set arrow from 1, graph 0 to 1, graph 1 nohead linecolor rgb "#a02020"
plot data using (0):0:(0):5:($0-0.35):($0+0.35):ytic(1) with boxxyerror linecolor rgb "#1f5a94"
