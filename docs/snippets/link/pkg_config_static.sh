cc -std=c11 -static main.c $(pkg-config --static --cflags --libs qrobust) \
    -o main
