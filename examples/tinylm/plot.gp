# gnuplot -e "tsv='perplexity.tsv'; svg='perplexity.svg'" plot.gp
# Left: all methods, perplexity on a logarithmic scale. Right: those that hold or nearly so, close up.
set terminal svg size 1150,560 font "sans-serif,12" background "white"
set output svg
set datafile separator "\t"
set logscale x 2
set xrange [240:8600]
set xtics ("256" 256, "512" 512, "1k" 1024, "2k" 2048, "4k" 4096, "8k" 8192)
set xlabel "bytes of context"
set ylabel "perplexity of the last 128 bytes"
set grid ytics lc rgb "#dddddd"
set multiplot layout 1,2 title "Trained on 256 bytes, read on up to 8192"

names = "rope linear ntk ntk-critical ntk-mixed dynamic-ntk dynamic-ntk-critical yarn dynamic-yarn logn rerope rerope-logn leaky-rerope self-extend dca streaming window alibi"
titles = "RoPE|linear (PI)|NTK|NTK, critical base|NTK-mixed|dynamic NTK|dynamic NTK, critical|YaRN|dynamic YaRN|log-n|ReRoPE|ReRoPE + log-n|Leaky ReRoPE|Self-Extend|DCA|StreamingLLM|window|ALiBi"
title_of(i) = system(sprintf("echo '%s' | cut -d'|' -f%d", titles, i))
row(name) = sprintf("< awk -F'\\t' '$1 == \"longest\" && $2 == \"%s\"' '%s'", name, tsv)

set logscale y
set yrange [2:300]
set key outside right
plot for [i=1:words(names)] row(word(names, i)) using 4:5 with linespoints lt i pt i ps 0.6 title title_of(i)

unset logscale y
set yrange [2.3:3.7]
set key off
plot for [i=1:words(names)] row(word(names, i)) using 4:5 with linespoints lt i pt i ps 0.6 notitle
unset multiplot
