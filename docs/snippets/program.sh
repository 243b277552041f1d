# [begin measure]
qrobust info model
qrobust eval model --text test.txt --precision fp32,int8,nf4,rtn3g32
# [end measure]
# [begin attack]
qrobust attack model attacked --ratio 1.2 --text validation.txt
# [end attack]
# [begin repair]
qrobust repair attacked repaired --text train.txt --anchor model \
    --test test.txt --precision fp32,nf4 --json repair.json --steps 20
# [end repair]
# [begin train]
qrobust train fresh --text train.txt --vocab 300 --dim 32 --layers 2 \
    --heads 2 --kv-heads 2 --hidden 64 --context 64 --steps 20
# [end train]
