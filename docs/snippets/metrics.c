/* Measurements on arrays: no model is needed. */
#include "snippet.h"

int main(void)
{
    qrb_context *ctx;

    must(NULL, qrb_context_create(NULL, &ctx));
    /* [begin windows] */
    qrb_window window;

    for (size_t i = 0;
         qrb_window_at(QRB_WINDOW_SLIDING, 3000, 2048, 512, i, &window) ==
         QRB_OK;
         i++)
        printf("context from %4zu, scored %4zu to %4zu\n", window.begin,
               window.first_scored, window.end);
    /* [end windows] */

    /* [begin logits] */
    const float base[2][4] = { { 2, 1, 0, -1 }, { 0.5f, 0.4f, 0.3f, 0.2f } };
    const float rounded[2][4] = { { 1.5f, 1.2f, 0.1f, -1.3f },
                                  { 0.2f, 0.6f, 0.3f, 0.1f } };
    const int32_t targets[2] = { 0, 2 };
    qrb_metric_result result = { .struct_size = sizeof result };
    qrb_metric *metric;

    must(ctx, qrb_metric_create(ctx, &metric));
    must(ctx, qrb_metric_add_logits(metric, base[0], rounded[0], targets, 2,
                                    4));
    must(ctx, qrb_metric_get(metric, &result));
    printf("perplexity %.4f, KL %.6f, same top token %.0f %%\n",
           result.perplexity, result.kl_mean, 100 * result.top1_agreement);
    qrb_metric_destroy(metric);
    /* [end logits] */

    /* [begin recovery] */
    printf("recovery %.2f %%\n", qrb_recovery(10.80, 16.41, 12.81));
    /* [end recovery] */

    /* [begin prompts] */
    const double clean[4] = { 10, 12, 9, 20 };
    const double defended[4] = { 10.5, 12.5, 9.2, 22 };
    const double attacked[4] = { 12, 12.2, 11, 30 };
    qrb_prompt_result prompts = { .struct_size = sizeof prompts };

    must(ctx, qrb_prompt_statistics(clean, defended, attacked, 4, &prompts));
    printf("in order %.2f, below the attacked %.2f, variance -%.1f %%\n",
           prompts.strict_ordering, prompts.defended_below,
           prompts.variance_reduction);
    /* [end prompts] */
    qrb_context_destroy(ctx);
    return 0;
}
