/*
 * Part of the static binaries: names of hosts are looked up in /etc/hosts, and then by DNS, whatever /etc/nsswitch.conf says.
 *
 * Other sources (myhostname, resolve, mdns) are shared libraries. A static binary crashes when it loads such a library on a machine whose
 * glibc has another version than the one in the binary.
 */
#include <nss.h>

__attribute__((constructor)) static void look_up_hosts_by_files_and_dns(void) { __nss_configure_lookup("hosts", "files dns"); }
