cc -std=c11 -I"$prefix/include" main.c "$libdir/libqrobust.a" \
    -l:libblis.a -ljansson -lpcre2-8 -lutf8proc -fopenmp -lm -o main
