# The part `asyncapi`: the reference parser of AsyncAPI, which the tests hold the committed contract against.

setup_asyncapi() {
    have npm || { skip "the validation of subjects/asyncapi.yaml: it needs npm"; return 0; }
    local target="$home/node" package="$root/tests/asyncapi/package.json"
    stamp_is asyncapi "$(<"$package")" && [[ -d $target/node_modules/@asyncapi/parser ]] && return 0
    mkdir -p "$target"
    cp "$package" "$target/"
    step asyncapi "Fetching the AsyncAPI parser" \
        npm --prefix "$target" --cache "$target/cache" install --no-package-lock --no-audit --no-fund
    stamp asyncapi "$(<"$package")"
}
