sync{
    default.rsyncssh,
    source="/home/projects", host="mirror@gate", targetdir="/backup/projects",
    delete="running", init=false, maxProcesses=2,
    rsync={ archive=true, compress=true, whole_file=false, rsync_path="sudo rsync", _extra={"--bwlimit=2000", "--exclude=*.o", "--omit-dir-times"} },
    ssh={ port=2222, identityFile="/root/.ssh/mirror", options={ StrictHostKeyChecking="no", ConnectTimeout=10 }, _extra={"-4"} },
    xargs={ binary="/usr/bin/xargs" },
}
sync{ default.direct, source="/home/projects", target="/mnt/copy of it", delete="startup", maxProcesses=4 }
sync{ default.rsync, source="/var/lib/repo", target="web:/srv/repo", delete=false,
      rsync={ links=false, perms=true, owner=true, group=true, rsh="/usr/bin/ssh -p 22022 -i /root/.ssh/repo", update=true, verbose=true } }
