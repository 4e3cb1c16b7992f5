#!/usr/bin/env bash
# Installs what building, running and testing need and this machine lacks, and says what it installs. Go, node and git
# are taken as given. Usage: install.sh run|test
# As root it uses apt-get as it is; an ordinary user needs sudo, or gets the line to ask an administrator for.
set -euo pipefail

purpose=${1:?usage: install.sh run|test}
missing=()

need() { # package, test command...
	local package=$1
	shift
	if ! "$@" >/dev/null 2>&1; then missing+=("$package"); fi
}

has_postgres() { compgen -G '/usr/lib/postgresql/*/bin/postgres' || command -v postgres; }
has_cjk() { compgen -G '/usr/share/fonts/opentype/noto/NotoSansCJK*'; }

need postgresql has_postgres
need ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
if [ "$purpose" = test ]; then
	need gcc command -v gcc # the race detector needs it
	need libc6-dev test -e /usr/include/stdlib.h
	need chromium command -v chromium
	need fonts-noto-cjk has_cjk
	need openssl command -v openssl
	need iproute2 command -v tc # network namespaces and narrow links
	need nftables command -v nft # a NAT between namespaces
	need procps command -v ps
fi

if [ ${#missing[@]} -gt 0 ]; then
	echo "install: Debian packages: ${missing[*]}"
	sudo=
	if [ "$(id -u)" -ne 0 ]; then
		if ! sudo -n true 2>/dev/null; then
			echo "install: this needs root. Ask an administrator for: apt-get install --no-install-recommends ${missing[*]}" >&2
			exit 1
		fi
		sudo="sudo -n"
	fi
	# The package would start a server of its own on port 5432; nothing here uses it.
	if [[ " ${missing[*]} " == *" postgresql "* ]] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
		$sudo mkdir -p /etc/postgresql-common
		echo "create_main_cluster = false" | $sudo tee /etc/postgresql-common/createcluster.conf >/dev/null
	fi
	$sudo apt-get update -qq
	DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
