/* The frame of the program: what a command gets, how it reads its options,
 * fails, and reports.  Uses the library's public headers only. */
#ifndef QROBUST_CLI_H
#define QROBUST_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include <jansson.h>
#include <qrobust/qrobust.h>

/* Exit statuses. */
enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* Where the program runs: a process, or a test that lends its allocator. */
struct cli_host {
    FILE *out;
    FILE *err;
    qrb_alloc_fn alloc; /* NULL: malloc */
    qrb_free_fn release;
    void *alloc_user;
};

/* Progress on a terminal: one line that is written over. */
struct cli_progress {
    FILE *stream; /* NULL: silent */
    double next;  /* seconds; no redraw before */
    size_t width; /* of the line on the screen */
};

struct cli_option;

struct cli {
    const struct cli_host *host;
    const char *program; /* "qrobust ", or "" where the command is all */
    const char *command; /* "eval" */
    const struct cli_option *options; /* of the command, once it has parsed */
    qrb_context *ctx;
    struct cli_progress progress;
    /* The options that every command has. */
    const char *json;
    uint64_t threads;
    uint64_t seed;
    bool quiet;
};

int cli_main(int argc, char **argv, const struct cli_host *host);
/* The end of every command: clears the progress bar, releases the context. */
void cli_close(struct cli *cli);

/* ---- options.c ---------------------------------------------------------- */

enum cli_kind { CLI_FLAG, CLI_TEXT, CLI_COUNT, CLI_REAL };

/* One option: --name VALUE. */
struct cli_option {
    const char *name;
    const char *value; /* "N", "FILE"; NULL for flags */
    const char *help;
    enum cli_kind kind;
    void *target; /* bool, const char *, uint64_t or double */
    bool *given;  /* may be NULL */
};

struct cli_command {
    const char *name;
    const char *arguments; /* "IN OUT" */
    const char *summary;
    int (*run)(struct cli *cli, const struct cli_command *command, int argc,
               char **argv);
};

extern const struct cli_command cli_commands[]; /* ends with a NULL name */

/* Read options (ended by a NULL name) and positional arguments.  Returns -1
 * to go on, or the exit status (--help is CLI_OK).  Afterwards the context
 * exists. */
int cli_parse(struct cli *cli, const struct cli_command *command,
              const struct cli_option *options, int argc, char **argv,
              const char **positional, int least, int most);

/* One line on stderr. */
int cli_usage_error(struct cli *cli, const char *format, ...)
    QRB_PRINTF(2, 3);
int cli_error(struct cli *cli, const char *format, ...) QRB_PRINTF(2, 3);
/* The library's message; `what` was being done. */
int cli_library_error(struct cli *cli, const char *what);
void cli_warning(struct cli *cli, const char *format, ...) QRB_PRINTF(2, 3);
/* A line for people on stdout, unless --quiet. */
void cli_say(struct cli *cli, const char *format, ...) QRB_PRINTF(2, 3);

void *cli_alloc(struct cli *cli, size_t count, size_t size);
void cli_free(struct cli *cli, void *memory);

/* ---- progress.c --------------------------------------------------------- */

int cli_progress_update(const char *what, uint64_t done, uint64_t total,
                        void *progress);
void cli_progress_clear(struct cli_progress *progress);
double cli_seconds(void);
/* SIGINT asks the context to stop; a second one ends the process. */
void cli_catch_interrupt(void);
int cli_interrupted(void *unused);

/* ---- text.c ------------------------------------------------------------- */

/* A text file, whole; NULL after an error message. */
char *cli_read_text(struct cli *cli, const char *path, size_t *size_out);

struct cli_tokens {
    int32_t *ids; /* release with qrb_free() */
    size_t count;
    char digest[65]; /* SHA-256 of the file; "" of no text */
};

/* Tokens of a text file by the rule of whole documents. */
int cli_tokenize(struct cli *cli, const qrb_tokenizer *tokenizer,
                 const char *path, struct cli_tokens *out);

/* ---- stream.c ----------------------------------------------------------- */

/* The text of a sequence of tokens that grows. */
struct cli_stream {
    struct cli *cli;
    const qrb_tokenizer *tokenizer;
    FILE *out; /* NULL: not printed */
    char *text; /* [size] as the tokens have it, and an end */
    size_t size;
    size_t capacity;
    size_t printed;
    size_t anchor; /* the token from which on text is decoded anew */
    size_t shown;  /* bytes of that which are in the text */
};

/* ids [count] is the sequence so far; all of it but the last token, or none of
 * it, was there before. */
int cli_stream_add(struct cli_stream *stream, const int32_t *ids,
                   size_t count);
/* What is left of a broken character, and the end of the last line. */
void cli_stream_end(struct cli_stream *stream);
void cli_stream_release(struct cli_stream *stream);

/* ---- model.c ------------------------------------------------------------ */

struct cli_model {
    qrb_model *model;
    qrb_tokenizer *tokenizer; /* NULL where there is none */
    qrb_engine_config config;
    char texts[16 * 65]; /* digests of those that made it, blanks between */
    char source[65];     /* digest of the weights that it was made of; or "" */
};

/* A safetensors directory, a GGUF file, a llama2.c .bin, or a directory that
 * holds one with its tokenizer. */
int cli_model_open(struct cli *cli, const char *path, const char *tokenizer,
                   bool trainable, struct cli_model *out);
int cli_model_need_tokenizer(struct cli *cli, const struct cli_model *model,
                             const char *path);
void cli_model_close(struct cli_model *model);
/* config.json, model.safetensors and, where there is one, tokenizer.json, which
 * replace those of a model that is there as one unit. */
int cli_model_save(struct cli *cli, const struct cli_model *model,
                   const char *directory);
/* One GGUF file with weights of enum qrb_gguf_type. */
int cli_model_save_gguf(struct cli *cli, const struct cli_model *model,
                        const char *path, uint32_t type);
uint64_t cli_model_parameters(const qrb_model *model);

/* ---- provenance.c ------------------------------------------------------- */

/* A text that the model is trained or calibrated on. */
void cli_model_note_text(struct cli_model *model,
                         const struct cli_tokens *text);
/* The weights as they are now are what the model is made of. */
int cli_model_note_source(struct cli *cli, struct cli_model *model);
/* Say so when what is measured on is among the texts that made a model. */
void cli_flag_text(struct cli *cli, const char *texts,
                   const struct cli_tokens *measured, const char *path);
/* Those that the file of a model tells. */
int cli_model_read_texts(struct cli *cli, const char *directory,
                         struct cli_model *model);
/* The options of the command as they are in force: "--steps 250 --lr 0.01". */
int cli_describe_options(struct cli *cli, char *out, size_t size);

/* ---- method.c ----------------------------------------------------------- */

/* A method of quantization as it is typed. */
struct cli_method {
    const char *name;    /* "smoothquant+rtn" */
    const char *options; /* "alpha=0.8", or "" */
    uint64_t bits;
    uint64_t group_size;
    bool bits_given;
};

/* What is to be known of it; NULL where a caller does not ask. */
struct cli_method_facts {
    bool needs_inputs;
    bool needs_fisher;
    uint32_t bits;    /* that it always has; 0: any */
    bool blocks;      /* scales are of blocks, not of groups of rows */
    double threshold; /* of the run-time product of int8; NaN: not asked */
};

/* Whether it looks at gradients, so that the model must have them. */
bool cli_method_trains(const struct cli_method *asked);
int cli_method_create(struct cli *cli, const struct cli_method *asked,
                      struct cli_method_facts *facts, qrb_quantizer **out);

/* ---- measure.c ---------------------------------------------------------- */

enum { CLI_MAX_PRECISIONS = 16 };

struct cli_precision {
    char name[24];
    qrb_quantizer *quantizer; /* NULL: fp32, the weights as they are */
};

struct cli_precisions {
    struct cli_precision list[CLI_MAX_PRECISIONS];
    size_t count;
};

int cli_precisions_parse(struct cli *cli, const char *list,
                         struct cli_precisions *out);
void cli_precisions_free(struct cli_precisions *precisions);

/* Measure with the matrices inside blocks fake-quantized; the weights are as
 * before when it returns. */
int cli_measure(struct cli *cli, qrb_model *model, qrb_model *base,
                const struct cli_tokens *text,
                const qrb_evaluate_options *options,
                const struct cli_precision *precision,
                qrb_metric_result *out, double *seconds_out);
/* Windows that fit the model: at most 512 tokens, half a window's stride. */
qrb_evaluate_options cli_evaluate_defaults(const struct cli_model *model);

/* ---- report.c ----------------------------------------------------------- */

/* A number, or null where it is undefined. */
json_t *cli_json_number(double value);
/* Bytes of the UTF-8 character that a text, which has an end, begins with; 0
 * if none does. */
size_t cli_character(const char *text);
/* A path or another text of the user's.  JSON holds UTF-8 alone, paths any
 * bytes: each byte that is no part of a character becomes U+FFFD, so that no
 * name costs a report its figures. */
json_t *cli_json_text(const char *text);
/* The same of `size` bytes and an end; many readers refuse a NUL, which becomes
 * U+FFFD as well. */
json_t *cli_json_bytes(const char *text, size_t size);
/* Write the object to --json, if given, and release it; NULL means that
 * memory ran out while it was made. */
int cli_report(struct cli *cli, json_t *object);

/* ---- commands ----------------------------------------------------------- */

int cli_info(struct cli *cli, const struct cli_command *command, int argc,
             char **argv);
int cli_convert(struct cli *cli, const struct cli_command *command, int argc,
                char **argv);
int cli_train(struct cli *cli, const struct cli_command *command, int argc,
              char **argv);
int cli_eval(struct cli *cli, const struct cli_command *command, int argc,
             char **argv);
int cli_generate(struct cli *cli, const struct cli_command *command, int argc,
                 char **argv);
int cli_matrix(struct cli *cli, const struct cli_command *command, int argc,
               char **argv);
int cli_attack(struct cli *cli, const struct cli_command *command, int argc,
               char **argv);
int cli_repair(struct cli *cli, const struct cli_command *command, int argc,
               char **argv);
int cli_quantize(struct cli *cli, const struct cli_command *command, int argc,
                 char **argv);

#endif
