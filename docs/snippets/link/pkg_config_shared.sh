cc -std=c11 main.c $(pkg-config --cflags --libs qrobust) -o main
