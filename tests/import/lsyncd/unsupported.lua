settings { logfacility = "daemon", nodaemon = true, nosuchsetting = 1 }

servers = { "web1", "web2" }
for _, server in ipairs(servers) do
    sync { default.rsync, source = "/srv/www", target = server .. "::www" }
end

function notify(event)
    spawn(event, "/usr/local/bin/notify", event.path)
end

if os.getenv("STAGE") == "live" then
    target = "live::www"
end

bash = {
    onCreate = "cp -r ^sourcePathname ^targetPathname",
}
sync { bash, source = "/srv/a", target = "/mnt/a" }
sync { default.rsync, source = "/srv/b", target = target }
sync { default.rsync, source = "srv/c", target = "web::c" }
sync { default.rsync, source = "/srv/d", target = "web::d", exclude = { "+ keep", "*.log" } }
sync { default.rsync, source = "/srv/e", target = "web::e", filter = { "+ /a", "- *" } }
sync {
    default.rsync,
    source = "/srv/f", target = "web::f",
    exitcodes = { [24] = "ok" },
    onMove = true,
    init = function(event) return event end,
    nosuchoption = 3,
    rsync = { archive = true, append = true, binary = "/opt/rsync", nosuch = true, _extra = { "--inplace" } },
}
sync { default.rsync, source = "/srv/g", target = "web::g", rsync = { _extra = { "--include=*.php", "--exclude=*" } } }
sync { default.rsync, source = "/srv/h", target = "web::h", rsync = { cvs_exclude = true } }
print("done")
