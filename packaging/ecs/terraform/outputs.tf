output "load_balancer_dns_name" {
  description = "Give the certificate's name to it by a CNAME or an alias."
  value       = aws_lb.this.dns_name
}

output "load_balancer_zone_id" {
  description = "For a Route 53 alias."
  value       = aws_lb.this.zone_id
}

output "security_group_id" {
  description = "Security group of the tasks."
  value       = aws_security_group.tasks.id
}

output "log_group_name" {
  description = "Log lines and audit records."
  value       = aws_cloudwatch_log_group.this.name
}
