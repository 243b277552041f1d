#include "cli_frame.h"

#include "cli.h"

struct failing_allocator counting;
char frame_out[16384];
char frame_err[4096];

static char directory[64];

const char *frame_path(const char *name)
{
    static char paths[4][160];
    static unsigned next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

/* Words of a small world, in an order that a model can learn. */
static void write_text(const char *name, unsigned state, size_t words)
{
    static const char *const subjects[] = { "the ewe ", "a man ", "the sea " };
    static const char *const verbs[] = { "saw ", "kept ", "loved " };
    static const char *const objects[] = { "the hill.\n", "bread.\n",
                                           "a song.\n" };
    FILE *file = fopen(frame_path(name), "w");

    ck_assert_ptr_nonnull(file);
    for (size_t i = 0; i < words; i++) {
        state = 1664525u * state + 1013904223u;
        fputs(subjects[(state >> 16) % 3], file);
        fputs(verbs[(state >> 20) % 3], file);
        fputs(objects[(state >> 24) % 3], file);
    }
    ck_assert_int_eq(fclose(file), 0);
}

void frame_open(void)
{
    make_directory(directory);
    write_text("text.txt", 1, 60);
    write_text("test.txt", 2, 12);
    ck_assert_int_eq(frame_run("train @/model --text @/text.txt --dim 2 "
                               "--heads 1 --layers 1 --hidden 2 --vocab 257 "
                               "--context 16 --batch 2 --steps 20 --lr 0.05"),
                     CLI_OK);
}

void frame_close(void)
{
    remove_directory(directory);
}

static void read_back(FILE *stream, char *out, size_t size)
{
    size_t length;

    fflush(stream);
    rewind(stream);
    length = fread(out, 1, size - 1, stream);
    out[length] = '\0';
    fclose(stream);
}

int frame_run(const char *words)
{
    struct cli_host host = { tmpfile(), tmpfile(), failing_alloc,
                             failing_free, &counting };
    char text[1024] = "qrobust ";
    char *argv[64];
    int argc = 0;
    int status;
    size_t used = strlen(text);

    for (; *words != '\0'; words++) {
        if (*words == '@')
            used += (size_t)snprintf(text + used, sizeof text - used, "%s",
                                     directory);
        else
            text[used++] = *words;
        ck_assert_uint_lt(used, sizeof text - 80);
    }
    text[used] = '\0';
    for (char *word = strtok(text, " "); word != NULL;
         word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    ck_assert_ptr_nonnull(host.out);
    ck_assert_ptr_nonnull(host.err);
    counting.calls = 0;
    status = cli_main(argc, argv, &host);
    read_back(host.out, frame_out, sizeof frame_out);
    read_back(host.err, frame_err, sizeof frame_err);
    return status;
}

bool frame_exists(const char *name)
{
    return access(frame_path(name), F_OK) == 0;
}

void frame_remove(const char *name)
{
    char command[256];

    snprintf(command, sizeof command, "rm -rf %s", frame_path(name));
    ck_assert_int_eq(system(command), 0);
}

bool frame_same(const char *one, const char *other)
{
    size_t sizes[2];
    char *a = get_file(frame_path(one), &sizes[0]);
    char *b = get_file(frame_path(other), &sizes[1]);
    const bool same = sizes[0] == sizes[1] && memcmp(a, b, sizes[0]) == 0;

    free(a);
    free(b);
    return same;
}

json_t *frame_figures(const char *name)
{
    json_error_t error;
    json_t *object = json_load_file(frame_path(name), 0, &error);

    ck_assert_msg(object != NULL, "%s: %s", name, error.text);
    return object;
}

double frame_number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    ck_assert_msg(json_is_number(value), "%s is no number", key);
    return json_number_value(value);
}
