# For Doxygen: the plain comments of the headers count as documentation: a
# file's first one (which moves the rest down by a line), those at the left
# margin and those beside a field.
1s|^/\* |/** @file\n * |
2,$s|^/\* |/** |
s|;\( *\)/\* |;\1/**< |
s|^\( *size_t struct_size;\)$|\1 /**< sizeof of the struct that the caller has */|
# Defaults and presets that the line before says nothing of.
x
/\*\/$/!{
    x
    s|^#define QRB_[A-Z0-9_]*_INIT|/** Every default of the struct, written out. */\n&|
    s|^#define QRB_[A-Z0-9_]*_PAPER|/** What was published, written out. */\n&|
    x
}
x
h
