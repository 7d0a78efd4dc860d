# gnuplot -e "tsv='perplexity.tsv'; svg='perplexity.svg'" plot.gp
# Left: all methods, perplexity on a logarithmic scale. Right: those that hold or nearly so, close up.
set terminal svg size 1150,560 font "sans-serif,12" background "white"
set output svg
set logscale x 2
set xrange [240:8700]
set xtics ("256" 256, "512" 512, "1k" 1024, "2k" 2048, "4k" 4096, "8k" 8192)
set xlabel "bytes of context"
set grid ytics lc rgb "#dddddd"
set multiplot title "Trained on 256 bytes, read on up to 8192: perplexity of the last 128 bytes"

methods = system(sprintf("awk -F'\\t' '$1 == \"longest\" && !seen[$2]++ { printf \"%%s \", $2 }' '%s'", tsv))
colours = "#000000 #e41a1c #377eb8 #4daf4a #984ea3 #ff7f00 #a65628 #f781bf #999999"
colour(i) = word(colours, (i - 1) % 9 + 1)
row(name) = sprintf("< awk -F'\\t' '$1 == \"longest\" && $2 == \"%s\" { print $4, $5 }' '%s'", name, tsv)
label(name) = system(sprintf("awk -F'\\t' '$2 == \"%s\" { print $3; exit }' '%s'", name, tsv))

set tmargin at screen 0.92
set lmargin at screen 0.05
set rmargin at screen 0.38
set logscale y
set yrange [2:300]
set key off
plot for [i=1:9] row(word(methods, i)) using 1:2 with linespoints lc rgb colour(i) pt i ps 0.6, \
  for [i=10:words(methods)] row(word(methods, i)) using 1:2 with linespoints lc rgb colour(i) dt 2 pt i ps 0.6

set lmargin at screen 0.44
set rmargin at screen 0.79
unset logscale y
set yrange [2.3:3.7]
set key at screen 0.99, 0.92 right top Left reverse samplen 2
plot for [i=1:9] row(word(methods, i)) using 1:2 with linespoints lc rgb colour(i) pt i ps 0.6 title label(word(methods, i)), \
  for [i=10:words(methods)] row(word(methods, i)) using 1:2 with linespoints lc rgb colour(i) dt 2 pt i ps 0.6 title label(word(methods, i))
unset multiplot
