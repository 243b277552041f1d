/* Noise of a given size, undone bit for bit. */
#include "snippet.h"

#include <string.h>

int main(void)
{
    static float w[2][64];
    float before[2][64];
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_context *ctx;
    qrb_tensor *weight;
    qrb_model *model;

    must(NULL, qrb_context_create(NULL, &ctx));
    must(ctx, qrb_model_create(ctx, NULL, &model));
    shape.memory = w;
    shape.rank = 2;
    shape.shape[0] = 2;
    shape.shape[1] = 64;
    must(ctx, qrb_tensor_create(ctx, &shape, &weight));
    parameter.name = "fc1";
    parameter.role = QRB_ROLE_FC1;
    parameter.layer = 0;
    parameter.weight = weight;
    must(ctx, qrb_model_add_parameter(model, &parameter, NULL));
    for (int i = 0; i < 128; i++)
        w[i / 64][i % 64] = (float)(i - 64) / 64;
    memcpy(before, w, sizeof w);
    /* [begin attack] */
    qrb_attack_options options = QRB_ATTACK_OPTIONS_INIT;
    qrb_noise *attack;

    options.sigma = 0.05;
    options.seed = 7;
    must(ctx, qrb_noise_create_attack(ctx, &options, &attack));
    must(ctx, qrb_noise_bind(attack, model, NULL));
    must(ctx, qrb_perturb_begin(attack));
    printf("w[0][0]: %.4f became %.4f\n", (double)before[0][0],
           (double)w[0][0]);
    must(ctx, qrb_perturb_end(attack));
    printf("and is %s again\n",
           memcmp(w, before, sizeof w) == 0 ? "itself" : "NOT ITSELF");
    /* [end attack] */
    qrb_noise_destroy(attack);
    qrb_tensor_destroy(weight);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
    return 0;
}
