----
-- The usual: one tree to three servers.
settings {
    logfile = "/var/log/lsyncd/lsyncd.log",
    statusFile = "/var/log/lsyncd/lsyncd.status",
    statusInterval = 10,
    insist = true,
    maxProcesses = 4,
    inotifyMode = "CloseWrite or Modify"
}

local base = "/srv/"
local excludes = { "*.tmp", "/cache/", ".git/" }
local account = "backup"

sync {
    default.rsync,
    source = base .. "www",
    target = account .. "@web1::www",
    delay = 5,
    exclude = excludes,
    rsync = { archive = true, compress = true, acls = true, password_file = "@DIR@/rsync.password", timeout = 60 }
}
sync {
    default.rsync,
    source = base .. "www/",
    target = account .. "@web2::www",
    delay = 5,
    exclude = excludes,
    rsync = { archive = true, compress = true, acls = true, password_file = "@DIR@/rsync.password", timeout = 60 }
}
-- Another delay: a config of its own.
sync{ default.rsync, source = base .. "www", target = "rsync://web3:8873/www", delay = 0, excludeFrom = "@DIR@/exclude" }
