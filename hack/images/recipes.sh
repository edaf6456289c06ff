# shellcheck shell=bash
# How each image is made and what its tag is made of. Sourced, never run.

PROFILE=${PROFILE:-dev}
DEBIAN_RELEASE=bookworm
# Older archives of the podwright image beyond this many are removed: one is made at each change of the code.
KEPT_ARCHIVES=20

reference_of() {
	local repository tag
	case $1 in
	pause) repository=pause tag=$(recipe_of pause | key_of hack/images/pause.c) ;;
	debian) repository=debian tag=$DEBIAN_RELEASE-$(recipe_of debian debootstrap_arguments | key_of) ;;
	sandbox)
		repository=podwright-sandbox-default
		tag=$(recipe_on_debian sandbox | key_of hack/images/sandbox.Dockerfile hack/images/sandbox.packages)
		;;
	podwright)
		repository=podwright
		tag=$(recipe_on_debian podwright | key_of Dockerfile "$(program podwright)" "$(program podwright-parent)" \
			"$(program podwright-sandboxd)")
		;;
	*) fail "hack/image knows no image $1." ;;
	esac
	echo "localhost/$repository:$tag"
}

# recipe_of NAME [FUNCTION...]: the functions that make an image. As the shell prints them, so that a comment or a
# blank changes no tag.
recipe_of() {
	local name=$1
	shift
	declare -p DEBIAN_RELEASE
	declare -f "build_$name" build_file builder "$@"
}

# recipe_on_debian NAME: that of an image which is made from debian, whose tag stands for all that it was made of.
recipe_on_debian() {
	reference_of debian
	recipe_of "$1"
}

archive_of() {
	local reference
	reference=$(reference_of "$1")
	reference=${reference#localhost/}
	echo "$PODWRIGHT_CACHE/images/${reference/:/-}.tar"
}

debootstrap_arguments() { echo "--variant=minbase --include=ca-certificates $DEBIAN_RELEASE"; }

# program NAME: where cargo puts it, from the root of the repository.
program() {
	local folder=debug
	[ "$PROFILE" != release ] || folder=release
	case $1 in
	podwright | podwright-parent) echo "target/$folder/$1" ;;
	podwright-sandboxd) echo "target/sandboxd/x86_64-unknown-linux-gnu/$folder/podwright-sandboxd" ;;
	esac
}

# The supervisor has a call and a target directory of its own: the flag that makes it static would break
# procedural macros, and rebuild everything else each time.
compile() {
	local cargo=${CARGO:-cargo}
	need_rust
	say "compiling podwright, podwright-parent and podwright-sandboxd ($PROFILE)"
	"$cargo" build --quiet --locked --profile "$PROFILE" --package podwright --bins >&2 ||
		fail "podwright does not compile."
	RUSTFLAGS="-C target-feature=+crt-static" "$cargo" build --quiet --locked --profile "$PROFILE" \
		--package podwright-sandboxd --bin podwright-sandboxd \
		--target x86_64-unknown-linux-gnu --target-dir target/sandboxd >&2 ||
		fail "podwright-sandboxd does not compile."
}

build_archive() {
	local name=$1 archive=$2 work
	[ ! -f "$archive" ] || return 0 # built while we waited for the lock
	need_root
	need_packages buildah skopeo debootstrap ca-certificates
	need_space "$PODWRIGHT_CACHE" 4
	mkdir -p "$PODWRIGHT_CACHE/images"
	work=$(mktemp -d "$PODWRIGHT_CACHE/images/work.XXXXXX")
	say "building the image $(reference_of "$name")"
	"build_$name" "$work"
	builder push --quiet "$(reference_of "$name")" "docker-archive:$archive.new:$(reference_of "$name")" >/dev/null
	mv "$archive.new" "$archive"
	rm -rf "$work"
	forget_old_archives
	say "built the image $(reference_of "$name")"
}

build_pause() {
	need_packages gcc libc6-dev
	gcc -O2 -static -o "$1/pause" hack/images/pause.c
	printf 'FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n' >"$1/Dockerfile"
	build_file pause "$1/Dockerfile" "$1"
}

# What `docker.io/library/debian:bookworm-slim` is where there is a registry.
build_debian() {
	local arguments
	read -r -a arguments < <(debootstrap_arguments)
	quietly "debootstrap failed: is a Debian mirror reachable?" debootstrap "${arguments[@]}" "$1/root"
	rm -rf "$1"/root/var/cache/apt/archives/*.deb "$1"/root/var/lib/apt/lists/* "$1"/root/usr/share/{doc,man,locale}/*
	mkdir -p "$1"/root/usr/share/man/man{1,7}
	# Updates and security fixes come from where this machine gets them, if it is of the same release.
	# shellcheck disable=SC2016 # apt's own placeholders
	apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		grep " $DEBIAN_RELEASE" | sort -u >"$1/sources.list" || true
	[ ! -s "$1/sources.list" ] || cp "$1/sources.list" "$1/root/etc/apt/sources.list"
	printf 'FROM scratch\nCOPY root /\nCMD ["/bin/bash"]\n' >"$1/Dockerfile"
	build_file debian "$1/Dockerfile" "$1"
}

build_sandbox() {
	base_image
	build_file sandbox hack/images/sandbox.Dockerfile hack/images --build-arg "BASE_IMAGE=$(reference_of debian)"
}

# The programs come in an image of their own, so that the Dockerfile is the one that a user builds with.
build_podwright() {
	local binaries name
	base_image
	mkdir "$1/out"
	for name in podwright podwright-parent podwright-sandboxd; do
		# A debug build's line tables are most of its size, and are on this machine anyway.
		objcopy --strip-debug "$(program "$name")" "$1/out/$name"
	done
	binaries=$(reference_of podwright)
	binaries=${binaries/podwright:/podwright-binaries:}
	printf 'FROM scratch\nCOPY out /out\n' >"$1/Dockerfile"
	builder build --quiet --layers=false --tag "$binaries" --file "$1/Dockerfile" "$1" >/dev/null
	build_file podwright Dockerfile "$1" --build-arg "BASE_IMAGE=$(reference_of debian)" \
		--build-arg "BUILD_IMAGE=$binaries" --build-arg "BINARIES=$binaries"
	# By force, since buildah keeps a mounted container of a stage that is only copied from.
	builder rmi --force "$binaries" >/dev/null 2>&1 || true
}

# build_file NAME DOCKERFILE CONTEXT [ARGUMENT...]
build_file() {
	local name=$1 file=$2 context=$3
	shift 3
	quietly "The image $name could not be built from $file." builder build --layers \
		--tag "$(reference_of "$name")" --file "$file" "$@" "$context"
}

# The base is in the builder's own store when it was built here; after that is lost, the archive has it.
base_image() {
	local archive
	archive=$(archive_of debian)
	[ -f "$archive" ] || with_lock image-debian build_archive debian "$archive"
	builder inspect --type image "$(reference_of debian)" >/dev/null 2>&1 ||
		quietly "The base image could not be read from $archive." builder pull "docker-archive:$archive"
}

builder() {
	local driver=vfs command=$1
	shift
	[ "$(stat -f -c %T "$PODWRIGHT_CACHE")" = overlayfs ] || driver=overlay
	[ "$command" != build ] || set -- --isolation chroot --format docker --pull=never --network host "$@"
	buildah --storage-driver "$driver" --root "$PODWRIGHT_CACHE/containers" --runroot /run/podwright-containers \
		"$command" "$@"
}

forget_old_archives() {
	local archive
	while read -r archive; do
		rm -f "$archive"
		archive=${archive##*/podwright-}
		builder rmi "localhost/podwright:${archive%.tar}" >/dev/null 2>&1 || true
		containerd_ctr images remove "localhost/podwright:${archive%.tar}" >/dev/null 2>&1 || true
	done < <(find "$PODWRIGHT_CACHE/images" -name 'podwright-????????????.tar' -printf '%T@ %p\n' |
		sort -rn | tail -n "+$((KEPT_ARCHIVES + 1))" | cut -d' ' -f2)
}
