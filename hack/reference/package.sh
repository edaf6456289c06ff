# shellcheck shell=bash
# The reference agent of the differential tests, from the npm registry. Sourced, never run.
#
# package-lock.json fixes every byte. Nothing of the package is part of this repository.

# reference: prints the path of its program and fetches it first when the cache has none.
reference() {
	local folder
	folder=$PODWRIGHT_CACHE/bin/reference-$(key_of hack/reference/package.json hack/reference/package-lock.json </dev/null)
	[ -d "$folder" ] || with_lock fetch-reference fetch_reference "$folder" || return 1
	find "$folder" -path '*/vendor/*' -type f -name codex -perm -u+x
}

fetch_reference() {
	local folder=$1
	[ ! -d "$folder" ] || return 0 # fetched while we waited for the lock
	command -v npm >/dev/null || need_packages npm
	need_space "$PODWRIGHT_CACHE" 1
	say "fetching the reference agent from the npm registry"
	rm -rf "$folder.new"
	mkdir -p "$folder.new"
	cp "$REPOSITORY"/hack/reference/package{,-lock}.json "$folder.new"
	# No script of the package runs: its program is all that is wanted.
	quietly "The reference agent can't be fetched: is the npm registry reachable?" \
		npm ci --prefix "$folder.new" --ignore-scripts --no-audit --no-fund
	mv "$folder.new" "$folder"
}
