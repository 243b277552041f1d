meson setup build --prefix="$prefix" -Dtests=false
ninja -C build
meson install -C build
