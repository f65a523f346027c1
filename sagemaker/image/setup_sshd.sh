#!/usr/bin/env bash
# Sets up ssh between containers of this image, as the toolkit and mpirun use it. Keys are made once, at build time: every
# container of a job has the same pair, so whoever can pull the image can log in to its containers; keep it private.
set -euo pipefail

ssh-keygen -A
install -d /run/sshd
# The toolkit hands a worker's environment to its ranks through /etc/environment, which PAM reads; a container has no audit
# session for pam_loginuid to name.
install -d /etc/ssh/sshd_config.d
printf 'UsePAM yes\nPermitRootLogin prohibit-password\n' >/etc/ssh/sshd_config.d/duologue.conf
sed -i 's/^session\s\+required\s\+pam_loginuid\.so/session optional pam_loginuid.so/' /etc/pam.d/sshd
touch /etc/environment

install -d -m 700 /root/.ssh
rm -f /root/.ssh/id_rsa /root/.ssh/id_rsa.pub
ssh-keygen -q -t rsa -b 3072 -N '' -C duologue -f /root/.ssh/id_rsa
install -m 600 /root/.ssh/id_rsa.pub /root/.ssh/authorized_keys
# A job's hosts are new every time: there is nothing to compare a host's key with.
printf 'Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n' >/root/.ssh/config
chmod 600 /root/.ssh/config
