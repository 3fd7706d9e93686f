# The rotation function as a Terraform module: the same as ../template.yaml. Validated offline by
# `terraform fmt`, not applied.
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.70"
    }
  }
}

variable "name" {
  type        = string
  default     = "rotator"
  description = "What names begin with."
}

variable "zip" {
  type        = string
  description = "The zip that `make lambda` has built."
}

variable "architecture" {
  type    = string
  default = "arm64"
  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "arm64 or x86_64, as the zip."
  }
}

variable "runtime" {
  type    = string
  default = "python3.13"
}

variable "secret_arns" {
  type        = list(string)
  description = "Whole ARNs of the secrets that it may rotate. Never with a star."
  validation {
    condition     = length(var.secret_arns) > 0 && !anytrue([for arn in var.secret_arns : strcontains(arn, "*")])
    error_message = "Name each secret by its whole ARN."
  }
}

variable "master_secret_arns" {
  type        = list(string)
  default     = []
  description = "Whole ARNs of the admins' secrets (masterarn), which it may only read."
}

variable "kms_key_arn" {
  type    = string
  default = null
}

variable "strategy" {
  type        = string
  default     = null
  description = "Null: alternating-users where the secret has a masterarn, else single-user."
}

variable "options" {
  type        = any
  default     = null
  description = "Options of all these secrets, such as { group = \"app_owner\" }. Of one secret: its tags rotator-option-..."
}

variable "grace" {
  type        = string
  default     = "24h"
  description = "How long an old credential stays valid. Longer than any cache of your applications."
}

variable "drain_wait" {
  type        = string
  default     = "7d"
  description = "How long sessions of the old login are waited for after that."
}

variable "drain_then" {
  type        = string
  default     = "hold"
  description = "What is done then with those that are left: hold or terminate."
}

variable "journal" {
  type        = string
  default     = "log"
  description = "log, or postgresql://USER@HOST/DATABASE"
}

variable "journal_secret_arn" {
  type        = string
  default     = null
  description = "Whole ARN of the secret with its password, under the key password."
}

variable "journal_signed" {
  type        = bool
  default     = false
  description = "Whether that secret holds the signing key of the journal, under the key private_key."
}

variable "ca_file" {
  type        = string
  default     = null
  description = "The authorities of your databases, as `make lambda` --ca put them into the zip. RDS: global-bundle.pem."
}

variable "endpoint" {
  type        = string
  default     = null
  description = "Secrets Manager by another URL, such as that of a VPC endpoint without private DNS."
}

variable "password_length" {
  type        = number
  default     = null
  description = "This and the next six as AWS's own templates have them; all null: as rotator draws passwords."
}

variable "exclude_characters" {
  type    = string
  default = null
}

variable "exclude_lowercase" {
  type    = bool
  default = null
}

variable "exclude_uppercase" {
  type    = bool
  default = null
}

variable "exclude_numbers" {
  type    = bool
  default = null
}

variable "exclude_punctuation" {
  type    = bool
  default = null
}

variable "require_each_included_type" {
  type    = bool
  default = null
}

variable "environment" {
  type        = map(string)
  default     = {}
  description = "Further variables, such as ROTATOR_LOG_LEVEL: docs/reference/lambda.md."
}

variable "subnet_ids" {
  type    = list(string)
  default = []
}

variable "security_group_ids" {
  type    = list(string)
  default = []
}

variable "sweep_hours" {
  type        = number
  default     = 1
  description = "Hours from one sweep to the next."
  validation {
    condition     = contains([1, 2, 4, 6, 12, 24], var.sweep_hours)
    error_message = "1, 2, 4, 6, 12 or 24."
  }
}

variable "alarm_topic_arns" {
  type        = list(string)
  default     = []
  description = "SNS topics that are told of trouble. Their policy must let events.amazonaws.com publish too."
}

variable "log_retention_days" {
  type        = number
  default     = 400
  description = "The log is the audit journal where no database is."
}

data "aws_caller_identity" "current" {}

locals {
  functions = {
    rotate = {
      handler     = "rotator.faces.aws_lambda.handler"
      timeout     = 60
      description = "Called by Secrets Manager, once for each step of a rotation."
      sid         = "Rotate"
      actions = [
        "secretsmanager:DescribeSecret",
        "secretsmanager:GetSecretValue",
        "secretsmanager:PutSecretValue",
        "secretsmanager:UpdateSecretVersionStage",
      ]
      key_actions = ["kms:Decrypt", "kms:GenerateDataKey"]
    }
    sweep = {
      handler     = "rotator.faces.aws_lambda.sweep"
      timeout     = 300
      description = "Revokes old logins whose grace is over, and ends what was interrupted."
      sid         = "Sweep"
      actions = [
        "secretsmanager:DescribeSecret",
        "secretsmanager:GetSecretValue",
        "secretsmanager:UpdateSecretVersionStage",
      ]
      key_actions = ["kms:Decrypt"]
    }
  }
  environment = merge(
    {
      for name, value in {
        ROTATOR_GRACE               = var.grace
        ROTATOR_DRAIN_WAIT          = var.drain_wait
        ROTATOR_DRAIN_THEN          = var.drain_then
        ROTATOR_STRATEGY            = var.strategy
        ROTATOR_OPTIONS             = var.options == null ? null : jsonencode(var.options)
        ROTATOR_JOURNAL             = var.journal
        ROTATOR_JOURNAL_PASSWORD    = var.journal_secret_arn == null ? null : "aws:${var.journal_secret_arn}#password"
        ROTATOR_JOURNAL_SIGNING_KEY = var.journal_secret_arn == null || !var.journal_signed ? null : "aws:${var.journal_secret_arn}#private_key"
        ROTATOR_SSLROOTCERT         = var.ca_file
        SECRETS_MANAGER_ENDPOINT    = var.endpoint
        PASSWORD_LENGTH             = var.password_length == null ? null : tostring(var.password_length)
        EXCLUDE_CHARACTERS          = var.exclude_characters
        EXCLUDE_LOWERCASE           = var.exclude_lowercase == null ? null : tostring(var.exclude_lowercase)
        EXCLUDE_UPPERCASE           = var.exclude_uppercase == null ? null : tostring(var.exclude_uppercase)
        EXCLUDE_NUMBERS             = var.exclude_numbers == null ? null : tostring(var.exclude_numbers)
        EXCLUDE_PUNCTUATION         = var.exclude_punctuation == null ? null : tostring(var.exclude_punctuation)
        REQUIRE_EACH_INCLUDED_TYPE  = var.require_each_included_type == null ? null : tostring(var.require_each_included_type)
      } : name => value if value != null
    },
    var.environment,
  )
  rotate_arn = aws_lambda_function.rotate.arn
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "function" {
  for_each = local.functions

  # Which secrets the function rotates; AWS allows the list of all, or none.
  dynamic "statement" {
    for_each = each.key == "sweep" && var.journal == "log" ? [1] : []
    content {
      sid       = "Find"
      actions   = ["secretsmanager:ListSecrets"]
      resources = ["*"]
    }
  }

  statement {
    sid       = each.value.sid
    actions   = each.value.actions
    resources = var.secret_arns
  }

  dynamic "statement" {
    for_each = var.kms_key_arn != null ? [1] : []
    content {
      sid       = "${each.value.sid}Key"
      actions   = each.value.key_actions
      resources = [var.kms_key_arn]
      condition {
        test     = "ArnLike"
        variable = "kms:EncryptionContext:SecretARN"
        values   = var.secret_arns
      }
    }
  }

  dynamic "statement" {
    for_each = var.journal == "log" ? [1] : []
    content {
      sid       = "Journal"
      actions   = ["secretsmanager:TagResource"]
      resources = var.secret_arns
      condition {
        test     = "ForAllValues:StringEquals"
        variable = "aws:TagKeys"
        values   = ["rotator-journal", "rotator-state"]
      }
    }
  }

  dynamic "statement" {
    for_each = length(var.master_secret_arns) > 0 ? [1] : []
    content {
      sid       = "Masters"
      actions   = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"]
      resources = var.master_secret_arns
    }
  }

  dynamic "statement" {
    for_each = length(var.master_secret_arns) > 0 && var.kms_key_arn != null ? [1] : []
    content {
      sid       = "MastersKey"
      actions   = ["kms:Decrypt"]
      resources = [var.kms_key_arn]
      condition {
        test     = "ArnLike"
        variable = "kms:EncryptionContext:SecretARN"
        values   = var.master_secret_arns
      }
    }
  }

  # Which hosts belong together: for admins' secrets that RDS manages, and for readers.
  dynamic "statement" {
    for_each = length(var.master_secret_arns) > 0 ? [1] : []
    content {
      sid       = "Hosts"
      actions   = ["rds:DescribeDBInstances", "rds:DescribeDBClusters"]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = var.journal_secret_arn != null ? [1] : []
    content {
      sid       = "Read"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [var.journal_secret_arn]
    }
  }

  dynamic "statement" {
    for_each = var.journal_secret_arn != null && var.kms_key_arn != null ? [1] : []
    content {
      sid       = "ReadKey"
      actions   = ["kms:Decrypt"]
      resources = [var.kms_key_arn]
      condition {
        test     = "ArnLike"
        variable = "kms:EncryptionContext:SecretARN"
        values   = [var.journal_secret_arn]
      }
    }
  }

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.log[each.key].arn}:*"]
  }

  dynamic "statement" {
    for_each = length(var.subnet_ids) > 0 ? [1] : []
    content {
      sid = "Network"
      actions = [
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DetachNetworkInterface",
      ]
      resources = ["*"]
    }
  }
}

resource "aws_iam_role" "function" {
  for_each           = local.functions
  name_prefix        = "${var.name}-${each.key}-"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy" "function" {
  for_each = local.functions
  role     = aws_iam_role.function[each.key].id
  policy   = data.aws_iam_policy_document.function[each.key].json
}

resource "aws_cloudwatch_log_group" "log" {
  for_each          = local.functions
  name              = "/aws/lambda/${var.name}-${each.key}"
  retention_in_days = var.log_retention_days
}

resource "aws_lambda_function" "rotate" {
  function_name    = "${var.name}-rotate"
  description      = local.functions.rotate.description
  handler          = local.functions.rotate.handler
  timeout          = local.functions.rotate.timeout
  runtime          = var.runtime
  architectures    = [var.architecture]
  filename         = var.zip
  source_code_hash = filebase64sha256(var.zip)
  role             = aws_iam_role.function["rotate"].arn
  memory_size      = 256

  environment {
    variables = local.environment
  }

  dynamic "vpc_config" {
    for_each = length(var.subnet_ids) > 0 ? [1] : []
    content {
      subnet_ids         = var.subnet_ids
      security_group_ids = var.security_group_ids
    }
  }

  depends_on = [aws_cloudwatch_log_group.log, aws_iam_role_policy.function]
}

resource "aws_lambda_function" "sweep" {
  function_name    = "${var.name}-sweep"
  description      = local.functions.sweep.description
  handler          = local.functions.sweep.handler
  timeout          = local.functions.sweep.timeout
  runtime          = var.runtime
  architectures    = [var.architecture]
  filename         = var.zip
  source_code_hash = filebase64sha256(var.zip)
  role             = aws_iam_role.function["sweep"].arn
  memory_size      = 256

  environment {
    variables = merge({ ROTATOR_FUNCTION_ARN = local.rotate_arn }, local.environment)
  }

  dynamic "vpc_config" {
    for_each = length(var.subnet_ids) > 0 ? [1] : []
    content {
      subnet_ids         = var.subnet_ids
      security_group_ids = var.security_group_ids
    }
  }

  depends_on = [aws_cloudwatch_log_group.log, aws_iam_role_policy.function]
}

# Without source_account anybody's secret could be rotated by this function: the confused deputy.
resource "aws_lambda_permission" "rotate" {
  function_name  = aws_lambda_function.rotate.function_name
  action         = "lambda:InvokeFunction"
  principal      = "secretsmanager.amazonaws.com"
  source_account = data.aws_caller_identity.current.account_id
}

resource "aws_cloudwatch_event_rule" "sweep" {
  name_prefix         = "${var.name}-sweep-"
  schedule_expression = var.sweep_hours == 1 ? "rate(1 hour)" : "rate(${var.sweep_hours} hours)"
}

resource "aws_cloudwatch_event_target" "sweep" {
  rule = aws_cloudwatch_event_rule.sweep.name
  arn  = aws_lambda_function.sweep.arn
}

resource "aws_lambda_permission" "sweep" {
  function_name = aws_lambda_function.sweep.function_name
  action        = "lambda:InvokeFunction"
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.sweep.arn
}

resource "aws_cloudwatch_metric_alarm" "errors" {
  for_each            = { rotate = 300, sweep = var.sweep_hours * 3600 }
  alarm_name          = "${var.name}-${each.key}-fails"
  alarm_description   = "The function's log says to which secret, and what to do."
  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = "${var.name}-${each.key}" }
  statistic           = "Sum"
  period              = each.value
  evaluation_periods  = 1
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
}

resource "aws_cloudwatch_metric_alarm" "missing" {
  alarm_name        = "${var.name}-sweep-missing"
  alarm_description = "The sweep did not run: old credentials stay valid. Look at its rule and its permission."
  namespace         = "AWS/Lambda"
  metric_name       = "Invocations"
  dimensions        = { FunctionName = "${var.name}-sweep" }
  statistic         = "Sum"
  period            = var.sweep_hours * 3600
  # One period alone may lie between two sweeps.
  evaluation_periods  = 2
  threshold           = 1
  comparison_operator = "LessThanThreshold"
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topic_arns
}

# AWS gave a rotation up, whether or not the function was ever called. From CloudTrail; of any secret.
resource "aws_cloudwatch_event_rule" "failed" {
  count       = length(var.alarm_topic_arns) > 0 ? 1 : 0
  name_prefix = "${var.name}-failed-"
  description = "Secrets Manager could not rotate a secret."
  event_pattern = jsonencode({
    source      = ["aws.secretsmanager"]
    detail-type = ["AWS Service Event via CloudTrail"]
    detail = {
      eventSource = ["secretsmanager.amazonaws.com"]
      eventName   = ["RotationFailed", "RotationAbandoned"]
    }
  })
}

resource "aws_cloudwatch_event_target" "failed" {
  count = length(var.alarm_topic_arns)
  rule  = aws_cloudwatch_event_rule.failed[0].name
  arn   = var.alarm_topic_arns[count.index]
}

output "rotation_function_arn" {
  value       = local.rotate_arn
  description = "Point your secrets here: aws secretsmanager rotate-secret --rotation-lambda-arn"
}
